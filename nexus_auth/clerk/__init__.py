"""Clerk's language: events and objects, what of them is secret, and its Backend API. Knows no SQL."""
