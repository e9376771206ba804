"""segflow/models"""
