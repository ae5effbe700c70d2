internal import ABIChecker

/// Broken rules that one event explains.
struct Finding {
  /// The history and the event at which all of them are first wrong.
  var history: String
  var event: Int
  /// The rules, the one that shows best what is wrong first.
  var verdicts: [Verdict]
  /// That rule's violation at this event.
  var violation: Violation
  /// The step of the clock that is wrong; nil if something else is.
  var step: ClockStep?

  /// What the guest suffers, in one sentence; else the first rule, and what was seen.
  var sentence: String {
    guard let step else { return "\(verdicts[0].rule): seen \(violation.seen)" }
    let text = step.sentence
    return text.prefix(1).uppercased() + text.dropFirst()
  }

  /// "rewrite".
  var scenario: String { history.split(separator: ".").first.map(String.init) ?? history }
}

extension Digest {
  /// What fails the run, grouped by the event at which its rules are first wrong; the largest group first.
  ///
  /// Times that are wrong after a step of the clock follow from that step, and steps of one kind in several histories
  /// have one cause. Whatever else is wrong has a place of its own.
  var findings: [Finding] {
    let timelines = Timelines(report.histories)
    var open = failed.map { Suspect($0, timelines) }
    var findings: [Finding] = []
    while !open.isEmpty {
      var counts: [Place: Int] = [:]
      for suspect in open { for place in suspect.proofs.keys { counts[place, default: 0] += 1 } }
      guard
        let place = counts.min(by: {
          (-$0.value, $0.key.history, $0.key.event) < (-$1.value, $1.key.history, $1.key.event)
        })?.key
      else { break }
      let members = open.filter { $0.proofs[place] != nil }
      open.removeAll { $0.proofs[place] != nil }
      findings.append(finding(members, at: place, timelines))
    }
    return findings
  }

  private func finding(_ members: [Suspect], at place: Place, _ timelines: Timelines) -> Finding {
    // The shortest history is the smallest to repeat; one reading beside another says more than a rule's own terms.
    let proofs = members.flatMap { suspect in
      (suspect.proofs[place] ?? []).map { (verdict: suspect.verdict, proof: $0) }
    }.sorted { one, other in
      func rank(_ item: (verdict: Verdict, proof: Proof)) -> (Int, Int, Int, Int) {
        let own = Rule.named(item.verdict.rule)?.scenarios.map(\.rawValue) ?? []
        return (
          item.proof.isDirect ? 0 : 1, own.contains(item.proof.scenario) ? 0 : 1,
          timelines.size(item.proof.history), own.count
        )
      }
      return rank(one) < rank(other)
    }
    var verdicts: [Verdict] = []
    for verdict in proofs.map(\.verdict)
    where !verdicts.contains(where: { $0.rule == verdict.rule }) {
      verdicts.append(verdict)
    }
    let first = proofs[0].proof
    return Finding(
      history: first.history, event: first.violation.events.max() ?? 0, verdicts: verdicts,
      violation: first.violation, step: first.step)
  }
}

/// What several proofs share: a kind of step, or an event of one history.
private struct Place: Hashable {
  var history: String
  var event: Int
}

private struct Proof {
  var violation: Violation
  var history: String
  var step: ClockStep?
  /// Whether the violation is that step itself, and not what follows from it.
  var isDirect: Bool

  var scenario: String { history.split(separator: ".").first.map(String.init) ?? history }
}

/// A verdict that fails the run, with its proofs by their places.
private struct Suspect {
  var verdict: Verdict
  var proofs: [Place: [Proof]] = [:]

  init(_ verdict: Verdict, _ timelines: Timelines) {
    self.verdict = verdict
    guard case .broken(let violations) = verdict.outcome else { return }
    for violation in violations {
      let history = violation.history ?? verdict.scenario
      let last = violation.events.max() ?? 0
      let timeline = timelines.named(history)
      let direct = timeline?.wrongStep(violation.events)
      // Only a time can follow from a step of the clock.
      let step =
        direct ?? (violation.measure == nil ? nil : timeline?.firstWrongStep(until: last))
      let place =
        step?.kind.map { Place(history: $0, event: 0) } ?? Place(history: history, event: last)
      proofs[place, default: []].append(
        Proof(violation: violation, history: history, step: step, isDirect: direct != nil))
    }
  }
}

/// The histories of a report, each read once and only if asked for.
final class Timelines {
  private let histories: [History]
  private var read: [String: Timeline] = [:]

  init(_ histories: [History]) { self.histories = histories }

  /// How many events it has; many where it is unknown.
  func size(_ name: String) -> Int {
    histories.first { $0.header.name == name }?.events.count ?? .max
  }

  func named(_ name: String) -> Timeline? {
    if let timeline = read[name] { return timeline }
    let timeline = histories.first { $0.header.name == name }.map { Timeline($0) }
    read[name] = timeline
    return timeline
  }
}
