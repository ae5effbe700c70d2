/// Text from a history is text from a stranger: it must not move the cursor or start a line of its own.
public enum Plain {
  /// The text without control characters, on one line and at most `limit` characters long.
  public static func oneLine(_ text: String, limit: Int = 4096) -> String {
    var result = ""
    var count = 0
    for scalar in text.unicodeScalars {
      guard count < limit else { return result + "…" }
      count += 1
      switch scalar.properties.generalCategory {
      case .control, .lineSeparator, .paragraphSeparator: result.append(" ")
      // Invisible marks that reverse or join the text around them.
      case .format, .surrogate, .privateUse: result.append("\u{fffd}")
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// The same with a full stop, unless it is cut off or has one.
  static func sentence(_ text: String, limit: Int) -> String {
    let line = oneLine(text, limit: limit)
    return line.hasSuffix("…") || line.hasSuffix(".") ? line : "\(line)."
  }

  /// Breaks a text at spaces into lines of at most `width` characters; nil keeps it whole.
  public static func wrap(_ text: String, width: Int?) -> [String] {
    guard let width, text.count > width else { return [text] }
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ") {
      if !line.isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = ""
      }
      line += line.isEmpty ? String(word) : " \(word)"
    }
    return lines + [line]
  }

  public static func pad(_ text: String, to width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
