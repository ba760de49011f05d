"""Rewritings of true fixes: what stays the same for whoever calls, and what a grader may notice."""
