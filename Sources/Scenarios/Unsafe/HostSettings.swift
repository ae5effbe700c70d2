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

  static func found() -> HostSettings {
    var settings = HostSettings()
    for path in paths { settings.files[path] = HostFile.line(path) }
    settings.frequency = try? ClockFrequency.current()
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
    return problems
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
