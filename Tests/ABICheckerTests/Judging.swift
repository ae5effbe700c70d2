import Testing

@testable import ABIChecker

/// Judges `history` by the rule with this id.
func judge(_ id: String, _ history: History) throws -> Outcome {
  try #require(Rule.named(id), "no rule \(id)").judge(history)
}

func expectHolds(
  _ id: String, _ history: History, sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let outcome = try judge(id, history)
  #expect(outcome.holds, "\(id): \(outcome)", sourceLocation: sourceLocation)
}

/// Broken, and the violations' text has every one of `numbers`: a person must be able to compute it again.
func expectBroken(
  _ id: String, _ history: History, _ numbers: String...,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let outcome = try judge(id, history)
  guard case .broken(let violations) = outcome else {
    Issue.record("\(id) is not broken: \(outcome)", sourceLocation: sourceLocation)
    return
  }
  let text = violations.map { "\($0.expected); \($0.seen)" }.joined(separator: "\n")
  for number in numbers {
    #expect(text.contains(number), "\(id)", sourceLocation: sourceLocation)
  }
  let known = Set(history.events.map(\.number))
  for violation in violations {
    #expect(
      !violation.events.isEmpty && known.isSuperset(of: violation.events),
      "\(id) names no events", sourceLocation: sourceLocation)
  }
}

func expectNotTested(
  _ id: String, _ history: History, _ words: String...,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let outcome = try judge(id, history)
  guard case .notTested(let reason) = outcome else {
    Issue.record("\(id) is not 'not tested': \(outcome)", sourceLocation: sourceLocation)
    return
  }
  for word in words {
    #expect(reason.contains(word), "\(id)", sourceLocation: sourceLocation)
  }
}

func expectInconclusive(
  _ id: String, _ history: History, _ words: String...,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let outcome = try judge(id, history)
  guard case .inconclusive(let reason) = outcome else {
    Issue.record("\(id) is not inconclusive: \(outcome)", sourceLocation: sourceLocation)
    return
  }
  for word in words {
    #expect(reason.contains(word), "\(id)", sourceLocation: sourceLocation)
  }
}

extension Outcome {
  var holds: Bool {
    switch self {
    case .holds, .observed: true
    default: false
    }
  }

  var isNotTested: Bool {
    if case .notTested = self { true } else { false }
  }
}
