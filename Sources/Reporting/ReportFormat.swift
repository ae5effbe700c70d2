/// The forms that a report comes in; a file's ending tells which is meant.
public enum ReportFormat: String, Sendable, CaseIterable {
  case text, ktap, json

  public var ending: String {
    switch self {
    case .text: ".txt"
    case .ktap: ".ktap"
    case .json: ".json"
    }
  }

  /// The format that a file's ending asks for; nil for an ending that none has.
  public init?(path: String) {
    let name = path.split(separator: "/").last.map(String.init) ?? ""
    // A name that is nothing but an ending is a hidden file without one.
    guard !path.hasSuffix("/"),
      let format = Self.allCases.first(where: { name.hasSuffix($0.ending) && name != $0.ending })
    else { return nil }
    self = format
  }

  /// Whether several reports can follow each other in one text.
  public var holdsSeveral: Bool { self == .text }

  /// A report without colour, as wide as its lines are.
  public func render(_ report: Report, showsTimings: Bool = false) -> String {
    switch self {
    case .text: TextReport(report, showsTimings: showsTimings).text
    case .ktap: KTAPReport(report, showsTimings: showsTimings).text
    case .json: JSONReport(report).text
    }
  }
}
