"""segflow/io"""
