"""The history of runs: kept in an embedded database, listed, and compared with what noise allows."""
