"""segflow/report"""
