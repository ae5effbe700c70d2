/// Text in XML and HTML.
enum Markup {
  /// Text that ends no element, begins none, and ends no attribute.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
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

  /// The same of text from a history, on one line.
  static func line(_ text: String) -> String { escape(Plain.oneLine(text)) }

  static func attributes(_ pairs: [(String, String)]) -> String {
    pairs.map { " \($0.0)=\"\(line($0.1))\"" }.joined()
  }

  static func element(_ name: String, _ pairs: [(String, String)] = [], text: String = "") -> String
  {
    let opening = "<\(name)\(attributes(pairs))"
    return text.isEmpty ? "\(opening)/>" : "\(opening)>\(line(text))</\(name)>"
  }
}
