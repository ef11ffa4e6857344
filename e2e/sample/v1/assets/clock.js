document.querySelector("p").append(" It is " + new Date().toLocaleTimeString() + ".");
