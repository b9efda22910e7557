"""The command line: one thin function for each command, and all that commands print. Open `app.py` first."""
