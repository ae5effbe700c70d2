internal import CInside
internal import Glibc

/// Shell commands that were started and not yet waited for.
public struct Commands {
  private var running: Set<pid_t> = []

  public init() {}

  /// Starts `/bin/sh -c command`; does not wait for it.
  ///
  /// - Parameter variables: added to its environment.
  /// - Returns: 0, or the errno.
  public mutating func start(_ command: String, variables: [(String, String)]) -> Int32 {
    let texts = variables.map { strdup("\($0.0)=\($0.1)") }
    defer { for text in texts { free(text) } }
    let pointers = texts.compactMap { $0.map { UnsafePointer($0) as UnsafePointer<CChar>? } }
    let process = inside_spawn(command, pointers, UInt32(pointers.count))
    guard process > 0 else { return -process }
    running.insert(process)
    return 0
  }

  /// Takes leave of those that are over.
  public mutating func reap() {
    running = running.filter { waitpid($0, nil, WNOHANG) == 0 }
  }

  /// Gives those that still run some time, in nanoseconds.
  public mutating func wait(nanoseconds: UInt64) {
    let end = clock(CLOCK_MONOTONIC) + nanoseconds
    reap()
    while !running.isEmpty, clock(CLOCK_MONOTONIC) < end {
      sleep(nanoseconds: 10_000_000)
      reap()
    }
  }
}

/// The time that this program's threads were on a CPU, in nanoseconds.
public func timeOnCPU() -> UInt64 { clock(CLOCK_PROCESS_CPUTIME_ID) }

/// Sleeps until a time of CLOCK_MONOTONIC, in nanoseconds.
public func pause(until time: UInt64) {
  let now = clock(CLOCK_MONOTONIC)
  if time > now { sleep(nanoseconds: time - now) }
}

/// CLOCK_MONOTONIC in nanoseconds.
public func monotonicNow() -> UInt64 { clock(CLOCK_MONOTONIC) }
