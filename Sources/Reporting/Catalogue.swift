public import ABIChecker

/// The rules as a document for people.
public enum Catalogue {
  public static func markdown(_ topics: [Topic] = Rule.topics) -> String {
    let count = topics.reduce(0) { $0 + $1.rules.count }
    let observations = topics.reduce(0) { $0 + $1.rules.count(where: \.isObservation) }
    let contents = topics.map { topic in
      "- [\(topic.title)](#\(anchor(topic.title))): \(topic.rules.count)"
    }
    return """
      # The ABI of kvmclock, sentence by sentence

      <!-- Written by `kvmclock list --format markdown`; `make docs` does it. Do not edit. -->

      What the paravirtual clock of KVM on x86 promises to guests and to those who run them: \(count - observations) rules, each tested by \
      `kvmclock run`, and \(observations) observations, which report what the ABI leaves open. *Since* names the first kernel that owes \
      the sentence; without it, it is owed by every kernel that was tried, 5.10 and later. *Known* are the deviations of shipped \
      kernels. *Fails on* says by which faults, in the kernel or in what was recorded, the rule was seen to break.

      \(contents.joined(separator: "\n"))

      \(topics.map(section).joined(separator: "\n"))
      """
  }

  private static func section(_ topic: Topic) -> String {
    "## \(topic.title)\n\n" + topic.rules.map(entry).joined(separator: "\n")
  }

  private static func entry(_ rule: Rule) -> String {
    var items = [
      ("Source", escape(rule.source)), ("Seen by", escape(rule.method)),
      ("Scenarios", scenarios(rule)),
    ]
    if rule.since != "any" { items.append(("Since", "Linux \(escape(rule.since))")) }
    items += KnownDeviation.table.filter { $0.rule == rule.id }.map {
      ("Known", escape($0.sentence))
    }
    if !rule.faults.isEmpty {
      items.append(("Fails on", escape(rule.faults.joined(separator: "; "))))
    }
    let list = items.map { "- *\($0.0)*: \($0.1)\n" }.joined()
    let kind = rule.isObservation ? " (observation)" : ""
    return "### \(rule.id)\(kind)\n\n\(escape(rule.statement))\n\n\(list)"
  }

  private static func scenarios(_ rule: Rule) -> String {
    let names = rule.scenarios.map { "`\($0.rawValue)`" }.joined(separator: ", ")
    return names + (rule.everywhere ? ", and whatever all others recorded" : "")
      + (rule.needsHostChange ? "; only with `--change-host`" : "")
  }

  /// What Markdown would take for its own.
  private static func escape(_ text: String) -> String {
    var escaped = ""
    for character in text {
      if "*<>|[]`".contains(character) { escaped.append("\\") }
      escaped.append(character)
    }
    return escaped
  }

  /// The name that a heading can be reached by.
  private static func anchor(_ title: String) -> String {
    String(
      title.lowercased().compactMap { $0 == " " ? "-" : $0.isLetter || $0.isNumber ? $0 : nil })
  }
}
