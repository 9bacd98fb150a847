"""Start the page: `python space/app.py`.

The import stays below: the processes of limits.py import this file again.
"""

if __name__ == "__main__":
    from interface import start

    start()
