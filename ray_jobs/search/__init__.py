"""`resnet-dist tune`: Optuna proposes trials, Ray Tune keeps them, and a dispatcher hands them to worker groups that
stay. Open `tune.py` first, `dispatcher.py` for who gives which trial to whom.
"""
