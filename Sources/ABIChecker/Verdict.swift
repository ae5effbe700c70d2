/// What a rule says of a history.
public enum Outcome: Hashable, Sendable, Codable {
  /// The rule held, what it held on, and the observation that came nearest to an end of its interval.
  case holds(evidence: String, closest: Measure? = nil)
  /// What a behaviour that the ABI leaves open looks like here; it can't be wrong.
  case observed(value: String)
  case broken(violations: [Violation])
  /// Nothing to judge: what this host lacks, and how that was found out.
  case notTested(reason: String)
  /// The evidence was too wide to mean something, or the scenario ended early.
  case inconclusive(reason: String)

  public var isBroken: Bool {
    if case .broken = self { true } else { false }
  }

  public var isInconclusive: Bool {
    if case .inconclusive = self { true } else { false }
  }
}

/// One proof that a rule is broken.
public struct Violation: Hashable, Sendable, Codable {
  /// What the ABI allows here and why, in numbers with units.
  public var expected: String
  /// What was observed, in numbers with units.
  public var seen: String
  /// The events of the history that prove it.
  public var events: [Int]
  /// The history that holds them, as scenario and attempt: "rewrite.1".
  public var history: String?
  /// The same in numbers, where an interval was not kept.
  public var measure: Measure?
  /// Whether it is of the kind and size that the known deviation of its rule makes; nil where nothing was compared.
  public var fitsDeviation: Bool?

  public init(
    expected: String, seen: String, events: [Int], history: String? = nil,
    measure: Measure? = nil
  ) {
    self.expected = expected
    self.seen = seen
    self.events = events
    self.history = history
    self.measure = measure
  }
}

/// A rule's outcome over all the histories of a run.
public struct Verdict: Hashable, Sendable, Codable {
  public var rule: String
  public var outcome: Outcome
  /// The entry of the table of known deviations for this rule on this kernel: it explains a broken rule, and where the
  /// rule holds all the same the table is out of date.
  public var known: KnownDeviation?
  /// Why this kernel does not owe the rule that it breaks, if so.
  public var notOwed: Owed?
  /// Whether the rule that is broken rests on today's implementation of Linux alone.
  public var differsOnly: Bool?
  /// The scenario whose history decided.
  public var scenario: String

  public init(
    rule: String, outcome: Outcome, known: KnownDeviation? = nil, notOwed: Owed? = nil,
    differsOnly: Bool? = nil, scenario: String
  ) {
    self.notOwed = notOwed
    self.differsOnly = differsOnly
    self.rule = rule
    self.outcome = outcome
    self.known = known
    self.scenario = scenario
  }
}

/// How a verdict is shown and counted, in one word.
public enum Status: String, Hashable, Sendable, Codable, CaseIterable {
  case holds
  case observed
  case broken
  /// Broken, as a table of deviations says of this kernel.
  case known
  /// Broken, and only today's implementation of Linux promised it.
  case differs
  /// Broken, and only later kernels promise it.
  case notOwed = "not owed"
  case notTested = "not tested"
  case inconclusive
}

extension Verdict {
  public var status: Status {
    switch outcome {
    case .holds: .holds
    case .observed: .observed
    case .broken:
      notOwed != nil ? .notOwed : known != nil ? .known : differsOnly == true ? .differs : .broken
    case .notTested: .notTested
    case .inconclusive: .inconclusive
    }
  }

  /// Why a broken rule does not make the host unsound, in one sentence; nil if it does, or is not broken.
  public var excuse: String? {
    switch status {
    case .known: known?.sentence
    case .notOwed: notOwed.map { "not owed before Linux \($0.since), where \($0.before)" }
    case .differs:
      "differs from Linux as of \(Rule.implementationChecked); no document, guest or commit promises it"
    default: nil
    }
  }
}

extension KnownDeviation {
  /// "kernels since 5.19 and before 6.2".
  public var range: String {
    switch (since, until) {
    case (nil, nil): "all kernels so far"
    case (let first?, nil): "kernels since \(first)"
    case (nil, let end?): "kernels before \(end)"
    case (let first?, let end?): "kernels since \(first) and before \(end)"
    }
  }

  /// Which kernels, why, and who says so.
  public var sentence: String { "\(range): \(cause) (\(source))" }
}

extension Outcome {
  /// Several runs of one scenario: a violation in any counts, else the run that could tell.
  static func ofAttempts(_ outcomes: [Outcome]) -> Outcome {
    strongest(outcomes, order: [0, 1, 2, 3])
  }

  /// Several scenarios that exercise one rule: each has to be conclusive, but one that had nothing to judge
  /// does not take away what another one showed.
  static func ofScenarios(_ outcomes: [Outcome]) -> Outcome {
    strongest(outcomes, order: [0, 2, 1, 3])
  }

  /// `order` ranks broken, holds, inconclusive, not tested; the lowest wins.
  private static func strongest(_ outcomes: [Outcome], order: [Int]) -> Outcome {
    func rank(_ outcome: Outcome) -> Int {
      switch outcome {
      case .broken: order[0]
      case .holds, .observed: order[1]
      case .inconclusive: order[2]
      case .notTested: order[3]
      }
    }
    let violations = outcomes.flatMap { outcome -> [Violation] in
      if case .broken(let violations) = outcome { violations } else { [] }
    }
    if !violations.isEmpty { return .broken(violations: violations) }
    return outcomes.min { rank($0) < rank($1) }
      ?? .notTested(reason: "no scenario of this run exercises it")
  }
}
