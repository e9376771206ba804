"""segflow"""
