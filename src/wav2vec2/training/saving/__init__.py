"""Checkpoints that are whole or not there, and signals that ask for one."""
