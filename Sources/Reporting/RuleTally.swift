public import ABIChecker

/// What many verdicts on one rule come to.
public struct RuleTally: Hashable, Sendable, Codable {
  public private(set) var holds: UInt64 = 0
  public private(set) var observed: UInt64 = 0
  public private(set) var broken: UInt64 = 0
  public private(set) var inconclusive: UInt64 = 0
  public private(set) var notTested: UInt64 = 0
  /// The round that broke it first, from 1.
  public private(set) var firstBroken: UInt64?
  /// The first verdict of the kind that decides: broken before held before undecided before not tested.
  private var first: Verdict
  /// The newest verdict of that kind; the same one where the rule is broken, whose proofs are kept of one round only.
  private var last: Verdict

  public init(_ verdict: Verdict, round: UInt64) {
    first = verdict
    last = verdict
    count(verdict, round)
  }

  public mutating func add(_ verdict: Verdict, round: UInt64) {
    count(verdict, round)
    let (new, old) = (Self.rank(verdict), Self.rank(last))
    if new < old { first = verdict }
    if new < old || (new == old && !verdict.outcome.isBroken) { last = verdict }
  }

  public var rule: String { last.rule }

  /// How many verdicts there were.
  public var total: UInt64 { holds &+ observed &+ broken &+ inconclusive &+ notTested }

  /// The verdict on all rounds: one that broke the rule counts, else one that could tell.
  public var verdict: Verdict {
    var verdict = last
    switch last.outcome {
    case .broken: break
    case .holds:
      verdict.outcome = .holds(evidence: "\(times(holds)); the last: \(last.outcome.summary)")
    case .observed(let value):
      verdict.outcome = .observed(value: "\(value) (\(times(observed)); the first: \(firstValue))")
    case .inconclusive(let reason):
      verdict.outcome = .inconclusive(reason: "\(times(inconclusive)); the last: \(reason)")
    case .notTested: break
    }
    return verdict
  }

  private var firstValue: String { first.outcome.summary }

  private func times(_ count: UInt64) -> String {
    count == total ? "\(count) times" : "\(count) of \(total) times"
  }

  private mutating func count(_ verdict: Verdict, _ round: UInt64) {
    switch verdict.outcome {
    case .holds: holds &+= 1
    case .observed: observed &+= 1
    case .inconclusive: inconclusive &+= 1
    case .notTested: notTested &+= 1
    case .broken:
      broken &+= 1
      firstBroken = firstBroken ?? round
    }
  }

  private static func rank(_ verdict: Verdict) -> Int {
    switch verdict.outcome {
    case .broken: 0
    case .holds, .observed: 1
    case .inconclusive: 2
    case .notTested: 3
    }
  }
}
