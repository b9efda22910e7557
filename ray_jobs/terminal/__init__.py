"""What every command prints with: the console, tables, the bar of a scan, output files; `watcher.py` decides whether
long work shows its progress, `end_signals.py` hears what ends a command. Open `console.py` first."""
