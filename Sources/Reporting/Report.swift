public import ABIChecker

/// All that a report says: verdicts, and where and how they were reached.
public struct Report: Sendable {
  public var version: String
  public var host: HostFacts
  /// The machine's name, and when the run began, as "2026-11-25T02:35:00Z"; nil where histories were judged.
  public var hostname: String?
  public var date: String?
  /// The seed of all histories; nil where they have several.
  public var seed: UInt64?
  public var verdicts: [Verdict]
  /// How many rules were to be judged; more than there are verdicts after an interruption.
  public var planned: Int
  public var retries = 0
  /// How long it took, in nanoseconds; nil where nothing was run.
  public var nanoseconds: UInt64?
  public var timings: [ScenarioTiming] = []
  /// The files that hold each scenario's histories.
  public var files: [String: [String]] = [:]
  /// What was recorded, for the formats that show it; empty where nobody asked for one.
  public var histories: [History] = []
  /// What policies and faults did, where they ran.
  public var policies: PolicyMatrix?
  public var faults: FaultTable?
  /// What a soak saw over its time.
  var soak: SoakState?
  /// What ended the run early, such as "SIGINT".
  public var interruption: String?
  /// Why the run ended early: no guest of this host comes back. Then the host is broken, whatever its rules say.
  public var noGuestRuns: String?
  /// What else the reader has to know.
  public var notes: [String] = []
  /// The command that made it, and makes it again.
  public var command = "run"
  /// Options that a repetition needs besides the seed.
  public var repeatOptions = ""
  /// By the name of a history, how it was recorded; empty where one run recorded all.
  public var origins: [String: Origin] = [:]
  /// Whether a known deviation counts as broken.
  public var strict = false
  /// Deviations that the user knows of.
  public private(set) var own: [KnownDeviation] = []

  public init(
    version: String, host: HostFacts, seed: UInt64?, verdicts: [Verdict], planned: Int? = nil
  ) {
    self.version = version
    self.host = host
    self.seed = seed
    self.verdicts = verdicts
    self.planned = planned ?? verdicts.count
  }
}

/// The seed of a history, and the options of the run that recorded it.
public struct Origin: Hashable, Sendable {
  public var seed: UInt64
  public var options: String

  public init(seed: UInt64, options: String) {
    self.seed = seed
    self.options = options
  }
}

/// How long one run of a scenario took.
public struct ScenarioTiming: Hashable, Sendable, Codable {
  public var scenario: String
  public var attempt: Int
  public var nanoseconds: UInt64

  public init(scenario: String, attempt: Int, nanoseconds: UInt64) {
    self.scenario = scenario
    self.attempt = attempt
    self.nanoseconds = nanoseconds
  }
}

extension Status {
  /// The word as people read it.
  var label: String { self == .broken ? "BROKEN" : rawValue }

  /// What is broken and does not make the host unsound.
  static let excused: [Status] = [.known, .differs, .notOwed]
}

extension Report {
  func count(_ status: Status) -> Int { verdicts.count { $0.status == status } }

  /// Whether the run says nothing at all, which is not the same as that all is well.
  public var isEmpty: Bool { noGuestRuns == nil && verdicts.allSatisfy { $0.status == .notTested } }

  /// Excuses what the user's own list names.
  public mutating func excuse(_ own: [KnownDeviation]) {
    self.own = own
    verdicts = verdicts.map { $0.excused(by: own, on: host.kernel) }
  }

  /// The statuses that fail the run.
  var failing: [Status] { strict ? [.broken, .known, .differs] : [.broken] }

  /// Known deviations of this kernel that did not show: then the table of them is out of date.
  var outdated: [String] {
    verdicts.compactMap { verdict in
      guard case .holds = verdict.outcome, let known = verdict.known else { return nil }
      return
        "\(verdict.rule) holds, but \(known.range) are known to break it (\(known.source)): the table "
        + "of known deviations is out of date"
    }
  }

  /// 1 if a rule is broken or no guest runs, else 2 if one could not be decided or none was tested, else 0.
  public var exitCode: Int32 {
    if noGuestRuns != nil || failing.contains(where: { count($0) > 0 }) { return 1 }
    return count(.inconclusive) > 0 || isEmpty ? 2 : 0
  }

  /// Where and how all of it happened, each with its name.
  var facts: [(String, String)] {
    var facts: [(String, String)] = []
    if let hostname { facts.append(("host", hostname)) }
    facts += [("kernel", "Linux \(host.kernel)"), ("backend", host.backend ?? "unknown")]
    if let clock = host.clock { facts.append(("clock", clock)) }
    if let vmm = host.vmm { facts.append(("VMM", vmm)) }
    facts.append(("TSC", host.tscKHz.map { "\($0) kHz" } ?? "of unknown frequency"))
    facts.append(("clocksource", host.clocksource ?? "unknown"))
    if let cpu = host.machine?.cpu { facts.append(("CPU", cpu)) }
    if let microcode = host.machine?.microcode { facts.append(("microcode", microcode)) }
    if let taint = host.machine?.taint, taint != "0" { facts.append(("kernel taint", taint)) }
    if let seed { facts.append(("seed", "\(seed)")) }
    if let date { facts.append(("date", date)) }
    return facts
  }

  /// Where all of it happened, on one line.
  var headline: String {
    var parts =
      (host.vmm.map { [$0] } ?? []) + ["Linux \(host.kernel)", host.backend ?? "unknown backend"]
    if let clock = host.clock { parts.append("clock: \(clock)") }
    parts.append(host.tscKHz.map { "TSC \($0) kHz" } ?? "TSC of unknown frequency")
    parts.append("clocksource \(host.clocksource ?? "unknown")")
    if let seed { parts.append("seed \(seed)") }
    return Plain.oneLine("kvmclock \(version): \(parts.joined(separator: ", "))")
  }

  /// One line for each run of a scenario.
  var timingLines: [String] {
    let longest = timings.map(\.scenario.count).max() ?? 0
    return timings.map { timing in
      let again = timing.attempt > 1 ? "  attempt \(timing.attempt)" : ""
      let name = Plain.pad(timing.scenario, to: longest)
      let time = Self.milliseconds(timing.nanoseconds)
      return "time  \(name)  \(Plain.pad("", to: 8 - time.count))\(time) ms\(again)"
    }
  }

  /// "3.4".
  static func milliseconds(_ nanoseconds: UInt64) -> String {
    let tenths = nanoseconds / 100_000 + (nanoseconds % 100_000 >= 50_000 ? 1 : 0)
    return "\(tenths / 10).\(tenths % 10)"
  }

  /// "1.32 s".
  static func seconds(_ nanoseconds: UInt64) -> String {
    let hundredths = nanoseconds / 10_000_000 + (nanoseconds % 10_000_000 >= 5_000_000 ? 1 : 0)
    let fraction = hundredths % 100
    return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) s"
  }

  /// The command that does again what led to a verdict: with the scenario, where the rule alone runs others too.
  func repeatCommand(_ verdict: Verdict) -> String? {
    let history =
      if case .broken(let violations) = verdict.outcome { violations.first?.history } else {
        nil as String?
      }
    let name = history?.split(separator: ".").first.map(String.init) ?? verdict.scenario
    guard
      let origin = origins[history ?? ""]
        ?? seed.map({ Origin(seed: $0, options: repeatOptions) })
    else { return nil }
    let own = Rule.named(verdict.rule)?.scenarios.map(\.rawValue) ?? []
    let scenario = command == "run" && own != [name] && !name.isEmpty ? " --scenario \(name)" : ""
    return "kvmclock \(command) \(verdict.rule)\(scenario) --seed \(origin.seed)\(origin.options)"
  }

  /// The answer in one line.
  public var answer: String {
    let digest = Digest(self)
    return "\(digest.headline): \(digest.sentence)"
  }

  /// Why a rule is broken, line by line, each with its name: the rule, its first violations, and how to see them again.
  /// No lines where it is not broken.
  func proof(_ verdict: Verdict, most: Int = 3) -> [(name: String, text: String)] {
    guard case .broken(let violations) = verdict.outcome else { return [] }
    var lines: [(name: String, text: String)] = []
    if let rule = Rule.named(verdict.rule) {
      lines += [("rule", rule.statement), ("source", rule.source), ("tested", rule.method)]
    }
    for violation in violations.prefix(most) {
      lines += [("expected", violation.expected), ("seen", violation.seen)]
      lines.append(("where", place(of: violation, in: verdict)))
    }
    if violations.count > most {
      let more = Digest.counted(violations.count - most, "more violation")
      lines.append(("", "and \(more)"))
    }
    if let excuse = verdict.excuse { lines.append((verdict.status.rawValue, excuse)) }
    if let command = repeatCommand(verdict) { lines.append(("repeat", command)) }
    return lines
  }

  /// The events that prove a violation, and the history that holds them.
  func place(of violation: Violation, in verdict: Verdict) -> String {
    let numbers = violation.events.map(String.init).joined(separator: ", ")
    let events = violation.events.count == 1 ? "event \(numbers)" : "events \(numbers)"
    let history = violation.history ?? verdict.scenario
    let scenario = history.split(separator: ".").first.map(String.init) ?? verdict.scenario
    let place = "\(events) of scenario \(scenario)"
    let candidates = files(of: violation, in: verdict)
    switch candidates.count {
    case 0: return place
    case 1: return "\(place), \(candidates[0])"
    default: return "\(place), in one of \(candidates.joined(separator: ", "))"
    }
  }

  /// The files that may hold the history of a violation.
  func files(of violation: Violation, in verdict: Verdict) -> [String] {
    let history = violation.history ?? verdict.scenario
    let scenario = history.split(separator: ".").first.map(String.init) ?? verdict.scenario
    let paths = files[scenario] ?? []
    let named = paths.filter { path in
      path.split(separator: "/").last?.hasPrefix(history + ".") ?? false
    }
    return named.count == 1 ? named : paths
  }
}

extension Outcome {
  /// What is said of it on one line.
  var summary: String {
    switch self {
    case .holds(let evidence, _): evidence
    case .observed(let value): value
    case .notTested(let reason), .inconclusive(let reason): reason
    case .broken(let violations):
      violations.count == 1 ? "1 violation" : "\(violations.count) violations"
    }
  }
}
