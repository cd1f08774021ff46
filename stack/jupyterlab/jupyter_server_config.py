"""What JupyterLab's server does here and elsewhere does not."""

import os
import shutil
import sys
from pathlib import Path

# A terminal of JupyterLab knows `flow360` without an activated environment. (A login shell, the default, would set
# PATH anew.)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
c.ServerApp.terminado_settings = {"shell_command": [os.environ.get("SHELL") or shutil.which("bash") or "sh"]}  # noqa: F821 - jupyter gives it
