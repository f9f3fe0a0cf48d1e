"""From the field and back: scans, folders, tables, traits, counts."""
