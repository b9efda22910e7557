"""What every command prints with: the console, tables, the bar of a scan, output files. Open `console.py` first."""
