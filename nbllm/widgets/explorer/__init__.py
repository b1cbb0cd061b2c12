"""The results explorer: an answered frame as a table to sort, filter and correct."""
