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

  /// What the guest suffers, in one sentence.
  var sentence: String {
    let text = step?.sentence ?? "seen \(violation.seen), expected \(violation.expected)"
    return text.prefix(1).uppercased() + text.dropFirst()
  }

  /// "rewrite".
  var scenario: String { history.split(separator: ".").first.map(String.init) ?? history }
}

extension Digest {
  /// What fails the run, grouped by the event that most of its rules are wrong at; the largest group first.
  var findings: [Finding] {
    var open = failed.compactMap(Suspect.init)
    let sizes = Dictionary(report.histories.map { ($0.header.name, $0.events.count) }) { $1 }
    let timelines = Timelines(report.histories)
    var findings: [Finding] = []
    while !open.isEmpty {
      var counts: [Place: Int] = [:]
      for suspect in open { for place in suspect.proofs.keys { counts[place, default: 0] += 1 } }
      // Of those that explain as many rules, the one in the shortest history, which is the smallest to repeat.
      guard
        let place = counts.min(by: { one, other in
          func rank(_ entry: (key: Place, value: Int)) -> (Int, Int, String, Int) {
            (-entry.value, sizes[entry.key.history] ?? 0, entry.key.history, entry.key.event)
          }
          return rank(one) < rank(other)
        })?.key
      else { break }
      let members = open.filter { $0.proofs[place] != nil }
      open.removeAll { $0.proofs[place] != nil }
      findings.append(finding(members, at: place, timelines))
    }
    return findings
  }

  private func finding(_ members: [Suspect], at place: Place, _ timelines: Timelines) -> Finding {
    let timeline = timelines.named(place.history)
    let ranked = members.compactMap { suspect -> (Suspect, Violation, ClockStep?)? in
      suspect.proofs[place].map { ($0, timeline?.wrongStep($0.events)) }.map {
        (suspect, $0.0, $0.1)
      }
    }.sorted { one, other in
      func rank(_ item: (Suspect, Violation, ClockStep?)) -> (Int, Int, Int) {
        let own =
          item.0.verdict.scenario == place.history.split(separator: ".").first.map(String.init)
        return (
          item.2 != nil ? 0 : item.1.measure != nil ? 1 : 2, own ? 0 : 1,
          Rule.named(item.0.verdict.rule)?.scenarios.count ?? 9
        )
      }
      return rank(one) < rank(other)
    }
    return Finding(
      history: place.history, event: place.event, verdicts: ranked.map(\.0.verdict),
      violation: ranked[0].1, step: ranked[0].2)
  }
}

/// The last event of a proof: where it can first be seen that something is wrong.
private struct Place: Hashable {
  var history: String
  var event: Int
}

/// A verdict that fails the run, with its proofs by their places.
private struct Suspect {
  var verdict: Verdict
  var proofs: [Place: Violation] = [:]

  init?(_ verdict: Verdict) {
    guard case .broken(let violations) = verdict.outcome, !violations.isEmpty else { return nil }
    self.verdict = verdict
    for violation in violations {
      let place = Place(
        history: violation.history ?? verdict.scenario, event: violation.events.max() ?? 0)
      if proofs[place] == nil { proofs[place] = violation }
    }
  }
}

/// The histories of a report, each read once and only if asked for.
final class Timelines {
  private let histories: [History]
  private var read: [String: Timeline] = [:]

  init(_ histories: [History]) { self.histories = histories }

  func named(_ name: String) -> Timeline? {
    if let timeline = read[name] { return timeline }
    let timeline = histories.first { $0.header.name == name }.map { Timeline($0) }
    read[name] = timeline
    return timeline
  }
}
