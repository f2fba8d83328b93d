"""What `pycdc doctor` checks: functions from facts to findings, a module for each group."""
