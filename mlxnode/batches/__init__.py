"""Files and batches: where they are kept, and the process that answers the lines of batches.

All workers and that process open the same folder: a database of SQLite, and plain files. May
import config, messages and process; neither sanic nor mlx.
"""
