"""Other task queues around the same work: two commits, one when the job starts and one when it is done."""
