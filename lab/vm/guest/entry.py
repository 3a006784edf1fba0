"""The program the VM's disk holds as /usr/lib/lab-guest: `init`, `firstboot`, `systemctl ARGUMENTS`; and where the VM
stands in for Windows: `windows` (its extension), `words` (its translator), `cmd SCRIPT` (in base64)."""

from __future__ import annotations

import sys


def main() -> int:
    match sys.argv[1:]:
        case ["init"]:
            from lab.vm.guest import init

            return init.main()
        case ["firstboot"]:
            from lab.vm.guest import firstboot

            return firstboot.run()
        case ["systemctl", *rest]:
            from lab.vm.guest import systemctl

            return systemctl.main(rest)
        case ["windows"]:
            from lab.vm.guest import windows

            return windows.main()
        case ["words"]:
            from lab.vm.guest import words

            return words.serve()
        case ["cmd", script]:
            from lab.vm.guest import words

            return words.run_script(script)
        case other:
            known = "init, firstboot, systemctl, windows, words, cmd"
            print(f"unknown call {other}; one of {known}", file=sys.stderr)
            return 2
