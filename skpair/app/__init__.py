"""The command line `skpair`: from scans, folders and tables to a model, names, hits and queues.

Each command is a few lines over the public functions of the package, which do more.
"""
