public import ABIChecker
internal import FoundationEssentials

extension KnownDeviation {
  /// What a user writes of a deviation; the rest has defaults.
  private struct Entry: Decodable {
    var rule: String
    var since: KernelVersion?
    var until: KernelVersion?
    var cause: String
    var source: String

    enum Key: String, CodingKey, CaseIterable { case rule, since, until, cause, source }

    init(from decoder: any Decoder) throws {
      let names = try decoder.singleValueContainer().decode([String: AnyValue].self).keys.sorted()
      if let unknown = names.first(where: { Key(rawValue: $0) == nil }) {
        let known = Key.allCases.map(\.rawValue).joined(separator: ", ")
        throw DecodingError.dataCorrupted(
          .init(
            codingPath: decoder.codingPath,
            debugDescription: "an entry has \"\(unknown)\"; it may have \(known)"))
      }
      let members = try decoder.container(keyedBy: Key.self)
      rule = try members.decode(String.self, forKey: .rule)
      since = try members.decodeIfPresent(KernelVersion.self, forKey: .since)
      until = try members.decodeIfPresent(KernelVersion.self, forKey: .until)
      cause = try members.decode(String.self, forKey: .cause)
      source = try members.decode(String.self, forKey: .source)
    }
  }

  /// A value of which nothing is asked.
  private struct AnyValue: Decodable { init(from decoder: any Decoder) throws {} }

  /// Reads a user's own list.
  ///
  /// - Throws: `FileError` naming the file and what is wrong with it.
  public static func read(_ path: String) throws(FileError) -> [KnownDeviation] {
    let data = Data(try WholeFile.read(path, atMost: 1 << 20))
    let entries: [Entry]
    do { entries = try JSONDecoder().decode([Entry].self, from: data) } catch {
      throw FileError(
        .badData, path: path,
        cause: Plain.oneLine("not a list of known deviations: \(DecodingProblem.sentence(error))"),
        remedy: "write [{\"rule\": \"RATE-RAW\", \"cause\": \"…\", \"source\": \"…\"}]")
    }
    if let unknown = entries.first(where: { Rule.named($0.rule) == nil }) {
      throw FileError(
        .badData, path: path, cause: Plain.oneLine("there is no rule '\(unknown.rule)'"),
        remedy: "`kvmclock list` shows all rules")
    }
    return entries.map {
      KnownDeviation(
        rule: $0.rule, since: $0.since, until: $0.until, always: false, cause: $0.cause,
        source: $0.source)
    }
  }
}
