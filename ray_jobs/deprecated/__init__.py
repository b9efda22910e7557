"""Names of modules that an earlier release documented, for one release more. Open `submitted.py` first."""
