"""How well was a text said? Read `assessing.py` first: what is asked for, what was said instead, scores, times.

Nothing here claims anything about human learners: how far scores agree with what teachers hear in their speech has not
been measured. What scores were compared with is in their calibration, where there is one.
"""
