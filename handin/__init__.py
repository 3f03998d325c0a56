"""The student's last step: is what I hand in complete, valid and within the rules (check), and packed right (pack)?"""
