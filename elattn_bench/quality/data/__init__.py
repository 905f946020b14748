"""Loaders of data sets: numpy arrays from files that the user has. Nothing is downloaded.

Each module has two functions with the same arguments:
``locate(folders, **arguments)`` says quickly which files there are, or raises ``MissingData`` which names the package
or file that gives them; ``load(folders, **arguments)`` checks their sums and returns a ``DataSet``.
"""
