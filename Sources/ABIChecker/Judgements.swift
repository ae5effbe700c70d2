internal import Synchronization

/// What rules made of a history, by the rules' ids.
final class Judgements: Sendable {
  private let outcomes = Mutex<[String: Outcome]>([:])

  func of(_ rule: String, judge: () -> Outcome) -> Outcome {
    if let outcome = outcomes.withLock({ $0[rule] }) { return outcome }
    let outcome = judge()
    outcomes.withLock { $0[rule] = outcome }
    return outcome
  }
}
