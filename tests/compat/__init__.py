"""Tests of ``syncws.compat``."""
