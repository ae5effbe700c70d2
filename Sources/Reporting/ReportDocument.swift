public import ABIChecker

/// A report as JSON has it: docs/report.schema.json describes it.
public struct ReportDocument: Sendable, Codable {
  /// Newest version of the format that this code reads; it writes this one.
  public static let currentVersion = 1
  public static let formatName = "kvmclock-report"

  public var format: String
  public var version: Int
  /// The version of the program that judged.
  public var kvmclock: String
  /// Where and when it ran; nil where histories were judged later.
  public var hostname: String?
  public var date: String?
  public var host: HostFacts
  public var seed: UInt64?
  public var strict: Bool
  public var planned: Int
  public var exitStatus: Int32
  public var counts: Counts
  public var retries: Int
  public var nanoseconds: UInt64?
  public var interruption: String?
  public var noGuestRuns: String?
  public var notes: [String]
  public var verdicts: [Entry]
  public var timings: [ScenarioTiming]
  public var policies: PolicyMatrix?
  public var faults: FaultTable?

  public struct Counts: Hashable, Sendable, Codable {
    public var holds: Int
    public var observed: Int
    public var broken: Int
    public var known: Int
    /// Nil in reports of older versions.
    public var differs: Int?
    public var notOwed: Int?
    public var notTested: Int
    public var inconclusive: Int
  }

  /// One rule's verdict.
  public struct Entry: Hashable, Sendable, Codable {
    public var rule: String
    public var topic: String?
    public var statement: String?
    public var source: String?
    /// Why a broken rule does not make the host unsound.
    public var excuse: String?
    public var verdict: Status
    /// The evidence, the value observed, the reason, or how many violations there are.
    public var summary: String
    /// The scenario whose history decided.
    public var scenario: String
    /// Where a rule holds: the observation that came nearest to an end of its interval.
    public var closest: Measure?
    public var violations: [Proof]?
    public var known: Deviation?
    /// The command that does it again.
    public var again: String?

    private enum CodingKeys: String, CodingKey {
      case rule, topic, statement, source, excuse, verdict, summary, scenario, closest, violations,
        known
      case again = "repeat"
    }
  }

  public struct Proof: Hashable, Sendable, Codable {
    public var expected: String
    public var seen: String
    /// Numbers of the events that prove it, and the history that holds them, "rewrite.1".
    public var events: [Int]
    public var history: String
    /// The files that may hold it, where histories were kept.
    public var files: [String]
    public var measure: Measure?
  }

  public struct Deviation: Hashable, Sendable, Codable {
    public var range: String
    public var cause: String
    public var source: String
    /// Whether the rule is broken as the table says; if not, the table is out of date.
    public var shows: Bool
  }
}
