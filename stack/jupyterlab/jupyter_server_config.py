"""What JupyterLab's server does here and elsewhere does not."""

import os
import shutil
import sys
from pathlib import Path

from flow360.course.desk import FOLDER, at_the_hub, lay_out
from flow360.settings import ROOT, ensure_env, settings

# Who may come in is said here, and not left to a default that another configuration of this machine could change. The
# token is not on the command line, where `ps` would show it.
c.ServerApp.allow_origin = c.ServerApp.allow_origin_pat = ""  # noqa: F821 - jupyter gives it
c.ServerApp.allow_unauthenticated_access = c.ServerApp.disable_check_xsrf = False  # noqa: F821
if at_the_hub():  # which asks who somebody is, and says where to listen; there was no `flow360 up` before
    ensure_env()
    lay_out(ROOT)
else:
    c.IdentityProvider.token = os.environ["JUPYTER_TOKEN"]  # noqa: F821
    c.PasswordIdentityProvider.hashed_password = ""  # noqa: F821
    c.ServerApp.ip = "127.0.0.1"  # noqa: F821
    c.ServerApp.allow_remote_access = False  # noqa: F821

# A terminal of JupyterLab knows `flow360` without an activated environment. (A login shell, the default, would set
# PATH again.)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
c.ServerApp.terminado_settings = {"shell_command": [os.environ.get("SHELL") or shutil.which("bash") or "sh"]}  # noqa: F821 - jupyter gives it

# Home: its page, and the tab of JupyterLab that it opens in.
c.ServerApp.jpserver_extensions = {"flow360.home": True}  # noqa: F821
c.LabApp.extra_labextensions_path = [str(ROOT / "flow360" / "home" / "labextensions")]  # noqa: F821

# The file browser begins at the learner's own copies, and above them leaves out what only maintainers need: they see it
# with FLOW360_MACHINERY=true in .env.
if not settings().flow360_machinery:
    c.ServerApp.contents_manager_class = "flow360.home.browsing.Tidy"  # noqa: F821
if (ROOT / FOLDER).is_dir():
    c.ServerApp.preferred_dir = str(ROOT / FOLDER)  # noqa: F821
