"""segflow/training"""
