import Glibc
import Testing

/// Leaves the signals of a failed precondition to the kernel: Swift's own handler prints pages.
func stopWithoutBacktrace() {
  signal(SIGILL, SIG_DFL)
  signal(SIGTRAP, SIG_DFL)
}

/// What a process that was meant to stop wrote to its standard error.
func message(of result: ExitTest.Result?) throws -> String {
  String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
}
