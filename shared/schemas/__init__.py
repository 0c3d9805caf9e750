"""What goes over the wire. Requests say what may be left out; answers always carry every field."""
