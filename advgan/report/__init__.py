"""The robustness report: a suite of attacks and defences, run on pairs of voices, as JSON and HTML.

::

    suite, pairs -> runner -> rows -> analysis -> report.json -> page -> report.html
"""
