/// The forms that a report comes in; a file's ending tells which is meant.
public enum ReportFormat: String, Sendable, CaseIterable {
  case text, ktap, junit, json, jsonl, markdown, html

  public var ending: String {
    switch self {
    case .text: ".txt"
    case .ktap: ".ktap"
    case .junit: ".xml"
    case .json: ".json"
    case .jsonl: ".jsonl"
    case .markdown: ".md"
    case .html: ".html"
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
  public var holdsSeveral: Bool { self == .text || self == .markdown }

  /// Whether it shows what was recorded, not only what came of it.
  public var showsHistories: Bool { self == .html }

  /// A report without colour, its lines as long as they are.
  public func render(_ report: Report, style: ReportStyle = ReportStyle()) -> String {
    switch self {
    case .text: TextReport(report, style: style).text
    case .ktap: KTAPReport(report, style: style).text
    case .junit: JUnitReport(report).text
    case .json: JSONReport(report).text
    case .jsonl: JSONLinesReport(report).text
    case .markdown: MarkdownReport(report).text
    case .html: HTMLReport(report).text
    }
  }
}
