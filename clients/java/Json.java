import java.util.*;

/** As much JSON as requests need: maps, lists, strings, doubles, booleans and null; RuntimeException where it is none. */
class Json {
    private final String text;
    private int at;

    Json(String text) {
        this.text = text.trim() + "\0";
    }

    Object whole() {
        Object made = value();
        if (at != text.length() - 1) throw new IllegalArgumentException("not JSON at character " + at);
        return made;
    }

    private boolean eat(String word) {
        while (Character.isWhitespace(text.charAt(at))) at++;
        boolean found = text.startsWith(word, at);
        at += found ? word.length() : 0;
        return found;
    }

    private Object value() {
        if (eat("{")) {
            Map<String, Object> map = new LinkedHashMap<>();
            for (boolean more = !eat("}"); more; more = !eat("}")) {
                need(map.isEmpty() || eat(","));
                need(eat("\""));
                String key = string();
                need(eat(":"));
                map.put(key, value());
            }
            return map;
        }
        if (eat("[")) {
            List<Object> list = new ArrayList<>();
            for (boolean more = !eat("]"); more; more = !eat("]")) {
                need(list.isEmpty() || eat(","));
                list.add(value());
            }
            return list;
        }
        if (eat("\"")) return string();
        if (eat("null")) return null;
        if (eat("true")) return true;
        if (eat("false")) return false;
        int begin = at;
        while ("+-.eE0123456789".indexOf(text.charAt(at)) >= 0) at++;
        return Double.valueOf(text.substring(begin, at));
    }

    private String string() {
        StringBuilder made = new StringBuilder();
        for (char c; (c = text.charAt(at++)) != '"'; ) {
            int escape = c == '\\' ? "nrtbfu".indexOf(c = text.charAt(at++)) : -1;
            if (escape == 5) c = (char) Integer.parseInt(text.substring(at, at += 4), 16);
            made.append(escape >= 0 && escape < 5 ? "\n\r\t\b\f".charAt(escape) : c);
        }
        return made.toString();
    }

    private void need(boolean held) {
        if (!held) throw new IllegalArgumentException("not JSON at character " + at);
    }

    static String quoted(String text) {
        StringBuilder made = new StringBuilder("\"");
        for (char c : text.toCharArray())
            made.append(c >= 0x20 && c < 0x7F && c != '"' && c != '\\' ? String.valueOf(c) : String.format("\\u%04x", (int) c));
        return made.append('"').toString();
    }
}
