"""Where pictures are kept. Rows hold keys; nobody joins paths from user input."""
