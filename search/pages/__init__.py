"""``leaderboard.html``: finished and running searches as one page that opens anywhere, without a network.

=====================  ==========================================================================
``found.py``           what is on disk: searches, their finalists, and what could not be read
``reproduce.py``       the command that trains one trial again
``board_rows.py``      the board's rows; ``board_columns.py``, ``board_table.py`` their HTML
``published.py``       other people's figures, ``published.csv``
``search_views.py``    how the search went; ``parameter_views.py`` what parameters were worth
``judged.py``          what finalists said of test clips; ``model_views.py`` its HTML
``confusion_files.py`` the confusion matrix for a paper
``provenance_view.py`` where it all comes from
``page.py``            the whole: ``page.html``, ``page.css`` and ``page.js`` around it
``markup.py``          HTML that cannot be broken by data; ``charts.py`` the same for charts
=====================  ==========================================================================

Charts are plotly.js, written as plain dictionaries: the page is built at the end of every search, whose driver need not
import plotly for it.
"""
