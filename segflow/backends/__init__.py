"""segflow/backends"""
