internal import CKVM
internal import Glibc

/// What scenarios may change of a host, as it was found.
public struct HostSettings: Sendable, Equatable {
  static let clocksource = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
  static let availableClocksources =
    "/sys/devices/system/clocksource/clocksource0/available_clocksource"
  static let suspendTest = "/sys/power/pm_test"
  static let suspendTestDelay = "/sys/module/suspend/parameters/pm_test_delay"
  private static let paths = [clocksource, suspendTest, suspendTestDelay]

  private var files: [String: String] = [:]
  private var frequency: Int?
  /// CLOCK_REALTIME less CLOCK_BOOTTIME, in nanoseconds.
  private var realtime: Int?

  static func found() -> HostSettings {
    var settings = HostSettings()
    for path in paths { settings.files[path] = HostFile.line(path) }
    settings.frequency = try? ClockFrequency.current()
    settings.realtime = RealtimeClock.sinceBoot()
    return settings
  }

  private init() {}

  /// Reads what `arguments` says; nil if it is nothing of the kind.
  public init?(arguments: [String]) {
    for argument in arguments {
      let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { return nil }
      if parts[0] == "frequency", let value = Int(parts[1]) {
        frequency = value
      } else if parts[0] == "realtime", let value = Int(parts[1]) {
        realtime = value
      } else if Self.paths.contains(parts[0]) {
        files[parts[0]] = parts[1]
      } else {
        return nil
      }
    }
  }

  /// One `name=value` for each setting.
  public var arguments: [String] {
    files.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      + (frequency.map { ["frequency=\($0)"] } ?? [])
      + (realtime.map { ["realtime=\($0)"] } ?? [])
  }

  /// Puts back what differs; says what could not be put back, and how to do it by hand.
  public func restore() -> [String] {
    var problems: [String] = []
    for (path, value) in files.sorted(by: { $0.key < $1.key }) where HostFile.line(path) != value {
      let error = HostFile.write(value, to: path)
      if HostFile.line(path) != value {
        problems.append(
          "could not put back \(path) (\(String(cString: strerror(error)))): echo \(value) > \(path)"
        )
      }
    }
    if let frequency, (try? ClockFrequency.current()) != frequency,
      (try? ClockFrequency.set(frequency)) == nil
    {
      problems.append("could not put back the clock's frequency: adjtimex --frequency \(frequency)")
    }
    // Less is what the host's own NTP does.
    if let realtime, abs(realtime - RealtimeClock.sinceBoot()) > 500_000_000,
      (try? RealtimeClock.step(by: realtime - RealtimeClock.sinceBoot())) == nil
    {
      problems.append("could not put back CLOCK_REALTIME: set it by NTP, or with date(1)")
    }
    return problems
  }
}

/// The host's CLOCK_REALTIME, which a step moves at once.
///
/// Source: adjtimex(2), ADJ_SETOFFSET.
enum RealtimeClock {
  static func sinceBoot() -> Int { nanoseconds(CLOCK_REALTIME) - nanoseconds(CLOCK_BOOTTIME) }

  static func step(by nanoseconds: Int) throws(ClockFrequency.Refused) {
    var state = timex()
    state.modes = UInt32(ADJ_SETOFFSET | ADJ_NANO)
    // The fraction is never negative.
    let second = 1_000_000_000
    let fraction = (nanoseconds % second + second) % second
    state.time.tv_sec = (nanoseconds - fraction) / second
    state.time.tv_usec = fraction
    guard adjtimex(&state) >= 0 else { throw ClockFrequency.Refused(errno: errno) }
  }

  private static func nanoseconds(_ clock: clockid_t) -> Int {
    var time = timespec()
    clock_gettime(clock, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}

/// By how much the kernel's NTP code makes CLOCK_REALTIME and CLOCK_MONOTONIC faster: parts per million times 2^16.
///
/// Source: adjtimex(2).
enum ClockFrequency {
  struct Refused: Error { var errno: Int32 }

  static func current() throws(Refused) -> Int {
    var state = timex()
    guard adjtimex(&state) >= 0 else { throw Refused(errno: errno) }
    return Int(state.freq)
  }

  static func set(_ frequency: Int) throws(Refused) {
    var state = timex()
    state.modes = UInt32(ADJ_FREQUENCY)
    state.freq = frequency
    guard adjtimex(&state) >= 0 else { throw Refused(errno: errno) }
  }
}
