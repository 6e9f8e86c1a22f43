"""Coding agents with a model of a node: what each is told, and how it is started.

An agent gets environment variables, arguments and files of a temporary folder; no file of its
user is written. Imports errors.
"""
