/// A format that has markup.
protocol MarkupLanguage: Sendable {
  /// The text so that nothing in it is markup, on one line, without control characters.
  static func escape(_ text: String) -> String
}

/// Text in the markup of a format.
///
/// A literal is markup as it stands. Whatever text is put into a literal is escaped, so that nothing from a history, a
/// report, a table or a host can be markup: there is no other way for a text into a page, an attribute or a table.
struct Markup<Language: MarkupLanguage>: ExpressibleByStringInterpolation, Hashable, Sendable {
  let text: String

  init(stringLiteral text: String) { self.text = text }

  init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }

  struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var text = ""

    init(literalCapacity: Int, interpolationCount: Int) { text.reserveCapacity(literalCapacity) }

    mutating func appendLiteral(_ literal: String) { text += literal }

    mutating func appendInterpolation(_ text: String) { self.text += Language.escape(text) }

    mutating func appendInterpolation(_ number: some BinaryInteger) { text += "\(number)" }

    mutating func appendInterpolation(_ markup: Markup?) { text += markup?.text ?? "" }
  }

  static func + (left: Markup, right: Markup) -> Markup { "\(left)\(right)" }
}

extension Sequence {
  func joined<Language>(separator: Markup<Language> = "") -> Markup<Language>
  where Element == Markup<Language> {
    Markup(stringLiteral: map(\.text).joined(separator: separator.text))
  }
}

/// The escapes of XML, which are HTML's too.
enum XMLText: MarkupLanguage {
  /// Text that ends no element, begins none, and ends no attribute.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for scalar in Plain.oneLine(text).unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      // Not allowed in XML at all.
      case "\u{fffe}", "\u{ffff}": escaped += "\u{fffd}"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}

typealias XML = Markup<XMLText>
typealias HTML = Markup<XMLText>

extension XML {
  static func attributes(_ pairs: [(String, String)]) -> XML {
    pairs.map { " \($0.0)=\"\($0.1)\"" as XML }.joined()
  }

  static func element(_ name: String, _ pairs: [(String, String)] = [], text: String = "") -> XML {
    text.isEmpty
      ? "<\(name)\(attributes(pairs))/>"
      : "<\(name)\(attributes(pairs))>\(text)</\(name)>"
  }

  /// A text as a name that an id and an address may hold. Different texts have different names.
  static func anchor(_ text: String) -> String {
    text.utf8.map { byte in
      byte.isOfName
        ? String(Character(Unicode.Scalar(byte)))
        : "_" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined()
  }
}

extension UInt8 {
  /// Whether a name, of a rule, a scenario or an option, has this byte, and no format takes it for markup.
  fileprivate var isOfName: Bool {
    switch Unicode.Scalar(self) {
    case "A"..."Z", "a"..."z", "0"..."9", "-", ".": true
    default: false
    }
  }
}

/// GitHub's Markdown.
enum MarkdownText: MarkupLanguage {
  /// Without what Markdown and GitHub would take for their own, and without mentions of people and issues.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for character in Plain.oneLine(text) {
      switch character {
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "&": escaped += "&amp;"
      case "@": escaped += "&#64;"
      case "*", "_", "[", "]", "|", "`", "\\", "#", "~", "$":
        escaped.append("\\")
        escaped.append(character)
      default: escaped.append(character)
      }
    }
    return escaped
  }
}

typealias Markdown = Markup<MarkdownText>

extension Markdown {
  /// A name as code. No escapes work in there, so one with other characters than names have is text.
  static func code(_ name: String) -> Markdown {
    let isName = !name.isEmpty && name.utf8.allSatisfy(\.isOfName)
    return isName ? "`\(name)`" : "\(name)"
  }

  /// - Parameter columns: how the columns after the first are aligned: `---`, `--:` or `:-:`.
  static func table(
    _ heads: [Markdown], _ rows: [[Markdown]], columns: Markdown = "---"
  ) -> Markdown {
    let line = { (cells: [Markdown]) -> Markdown in "| \(cells.joined(separator: " | ")) |" }
    let rule = line(heads.indices.map { $0 == 0 ? "---" : columns })
    return ([line(heads), rule] + rows.map(line)).joined(separator: "\n")
  }
}

/// What people read on a terminal or in a text file, where nothing is markup but what moves the cursor.
enum PlainText: MarkupLanguage {
  static func escape(_ text: String) -> String { Plain.oneLine(text) }
}

typealias Line = Markup<PlainText>
