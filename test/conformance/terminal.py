# Runs a program on a pseudo terminal and plays a dialogue with it, for tests of terminal mode.
#
#   terminal.py ROWSxCOLUMNS DIALOGUE PROGRAM ARG...
#
# DIALOGUE is a JSON list of [TEXT, ACTION, VALUE]: when TEXT has come (returns not counted), "send" writes VALUE, "resize" sets the size ROWSxCOLUMNS,
# "signal" sends the signal number VALUE. Output goes to stdout as it came; the exit status is the program's.
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios


# A program that did not listen yet for changes of the size, or could not hand one on, is told again after so long.
TOLD_AGAIN_S = 1


def set_size(fd, text):
    rows, columns = map(int, text.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def act(fd, pid, action, value):
    if action == "send":
        os.write(fd, value.encode())
    elif action == "resize":
        set_size(fd, value)
    else:
        os.kill(pid, int(value))


def wait_for_output(fd, pid):
    while not select.select([fd], [], [], TOLD_AGAIN_S)[0]:
        os.kill(pid, signal.SIGWINCH)


def main():
    size, dialogue, program = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    # The size must be right before the program asks for it.
    ready_read, ready_write = os.pipe()
    pid, fd = pty.fork()
    if pid == 0:
        os.read(ready_read, 1)
        os.execvp(program[0], program)
    set_size(fd, size)
    os.write(ready_write, b"x")
    seen = b""
    while True:
        wait_for_output(fd, pid)
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break  # Linux says EIO when the last process has closed the terminal.
        if not chunk:
            break
        os.write(1, chunk)
        seen += chunk.replace(b"\r", b"")  # However many returns the terminals have added.
        while dialogue and dialogue[0][0].encode() in seen:
            text, action, value = dialogue.pop(0)
            seen = seen[seen.index(text.encode()) + len(text) :]
            act(fd, pid, action, value)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


main()
