/// What became of a fault.
public struct FaultResult: Sendable, Codable {
  public var id: String
  public var meaning: String
  /// The rules that had to break, and those that were expected to break besides.
  public var expected: [String]
  public var also: [String]
  public var reason: String
  /// The rules that broke.
  public var broke: [String]
  /// How often the scenarios were run.
  public var tries: Int

  public init(
    id: String, meaning: String, expected: [String], also: [String] = [], reason: String = "",
    broke: [String], tries: Int = 1
  ) {
    self.id = id
    self.meaning = meaning
    self.expected = expected
    self.also = also
    self.reason = reason
    self.broke = broke
    self.tries = tries
  }

  /// Rules that had to break and did not.
  public var missed: [String] { expected.filter { !broke.contains($0) } }
  /// Rules that broke and nobody said why.
  public var unexplained: [String] { broke.filter { !expected.contains($0) && !also.contains($0) } }
  public var isCaught: Bool { missed.isEmpty }
  public var isAsExpected: Bool { isCaught && unexplained.isEmpty }
}

/// How small a fault of one kind is noticed.
public struct GradedResult: Sendable, Codable {
  public var id: String
  public var meaning: String
  public var unit: String
  public var rules: [String]
  /// From large to small, and whether it was caught.
  public var sizes: [Int]
  public var caught: [Bool]
  public var mustCatch: Int

  public init(
    id: String, meaning: String, unit: String, rules: [String], sizes: [Int], caught: [Bool],
    mustCatch: Int
  ) {
    self.id = id
    self.meaning = meaning
    self.unit = unit
    self.rules = rules
    self.sizes = sizes
    self.caught = caught
    self.mustCatch = mustCatch
  }

  /// The smallest size that was caught, with all larger ones.
  public var smallest: Int? { zip(sizes, caught).prefix { $0.1 }.last?.0 }
  public var isAsExpected: Bool { smallest.map { $0 <= mustCatch } ?? false }
}

/// What became of a run in which a guest, a thread or KVM itself went wrong.
public struct HarnessResult: Sendable, Codable {
  public var id: String
  public var meaning: String
  /// What the verdict has to say.
  public var says: String
  public var outcome: Outcome
  /// Whether the rule held in the next run, without the fault.
  public var holdsAfterwards: Bool

  public init(
    id: String, meaning: String, says: String, outcome: Outcome, holdsAfterwards: Bool
  ) {
    self.id = id
    self.meaning = meaning
    self.says = says
    self.outcome = outcome
    self.holdsAfterwards = holdsAfterwards
  }

  /// A verdict that says what it was, and does not say that the rule holds.
  public var isAsExpected: Bool {
    if case .holds = outcome { return false }
    return holdsAfterwards && "\(outcome)".contains(says)
  }
}

/// All that the bench found.
public struct FaultTable: Sendable, Codable {
  public var faults: [FaultResult]
  public var graded: [GradedResult]
  public var harness: [HarnessResult]

  public init(
    faults: [FaultResult] = [], graded: [GradedResult] = [], harness: [HarnessResult] = []
  ) {
    self.faults = faults
    self.graded = graded
    self.harness = harness
  }

  public var isAsExpected: Bool {
    faults.allSatisfy(\.isAsExpected) && graded.allSatisfy(\.isAsExpected)
      && harness.allSatisfy(\.isAsExpected)
  }
}
